"""Housekeeping: what lies in an artifact root, who needs it, and deleting what nobody does.

The root itself knows every study that was started with it: ``lineage.start_study`` keeps each as
a file in ``<root>/unsent``, with all that it is made of, before its first stage. Whoever deletes
holds the lock of these files while things are moved aside. So a study that starts either finds a
thing gone, and makes it again, or has said in time that it needs it.
"""
