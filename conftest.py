"""The parity suite is a pytest plugin; its options, fixtures and reports are in ``conversion/suite``."""

pytest_plugins = (
    "conversion.suite.rows",  # before what imports it, or pytest warns
    "conversion.suite.plugin",
    "conversion.suite.selection",
    "conversion.suite.hosts",
)
