"""The demo: a real stream of simulated card payments through the whole engine, with a worker killed on the way."""
