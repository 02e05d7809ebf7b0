"""What leaves the server: HTTP requests and mails, within the operator's limits. Knows no rule, dialect or channel."""
