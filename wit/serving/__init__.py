"""What ``wit up`` is made of: its programs, their database, who may ask them, and their health."""
