"""What a demo needs on one machine without containers: a real Kafka, child processes, one lock.

Everything takes its base folder (normally `.plimsoll`) as a parameter and reads no settings, so
that tests run in a folder of their own beside a running demo. Nothing here decides anything.
"""
