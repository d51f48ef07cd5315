"""The command line, ``vision-parity``: what is typed, and what is answered."""
