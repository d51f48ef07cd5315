"""The parity suite is a pytest plugin; its options, fixtures and reports are in ``conversion/suite``."""

pytest_plugins = (
    "conversion.suite.plugin",
    "conversion.suite.selection",
    "conversion.suite.rows",
    "conversion.suite.hosts",
)
