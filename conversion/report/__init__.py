"""What people look at: one HTML file, made of records alone."""
