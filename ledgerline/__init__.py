"""What a person uses: the command line, the client for upstream services, the local stack, the checker."""
