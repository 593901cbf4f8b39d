"""The pure core: what a request does to the book of a partition. No I/O, clock, randomness, logging or asyncio."""
