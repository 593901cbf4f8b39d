"""The local stack: a real Apache Kafka and a real PostgreSQL from Python packages alone, for development and tests.

``local`` starts, finds and stops the two servers; ``registry`` lists the HTTP addresses of the processes that use them.
"""
