"""What Ledgerline costs and how fast it is, measured beside what a user would do instead. Run it with `make bench`."""
