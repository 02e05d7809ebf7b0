"""The command `query`: SQL over one account's buckets, by way of the running server or without one."""
