"""What the commands are called on the control socket."""

EXPORT = "export"
IMPORT = "import"
IMPORT_TARGET = "import_target"
QUERY = "query"
