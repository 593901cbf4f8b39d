"""The vocabulary on the wire: requests, outcomes, journal events, config records, and the codec they share.

Pure: no I/O, clock, randomness, ``asyncio`` or ``logging``. Every producer and consumer of bytes goes through this
package, so a record is read the same way on every path.
"""
