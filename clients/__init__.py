"""What people import: the publisher of a compute node, the scheduler, replay, and the wiring of the rooms."""
