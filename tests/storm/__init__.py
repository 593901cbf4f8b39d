"""The storm: real workers and sinks are killed, frozen and cut off while clients send; afterwards everything must hold.

``python -m tests.storm --seed 1 --seconds 120``; see docs/testing.md.
"""
