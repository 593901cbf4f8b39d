"""Kafka in and out: the typed client, the journal (reading rule and writer), the worker loop, ownership, restore."""
