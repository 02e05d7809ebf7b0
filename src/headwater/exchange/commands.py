"""What the commands are called on the control socket."""

EXPORT = "export"
IMPORT = "import"
QUERY = "query"
