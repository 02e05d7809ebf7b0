"""The HTTP shell: server, application, console. Knows no dialect: those give it routes."""
