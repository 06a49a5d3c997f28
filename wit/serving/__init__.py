"""What ``wit up`` is made of: its programs, their database, who may ask them, and their health."""

POSTGRES = "WIT_POSTGRES"  # variable in which the address of --postgres may stand
