"""The demo project: a small pipeline over the IANA time zone tables."""
