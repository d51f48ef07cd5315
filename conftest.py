"""The parity suite is a pytest plugin; its options, fixtures and reports are in ``conversion/suite``."""

pytest_plugins = (  # the first two before what imports them, or pytest warns
    "conversion.suite.rows",
    "conversion.suite.selection",
    "conversion.suite.plugin",
    "conversion.suite.hosts",
)
