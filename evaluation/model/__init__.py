"""A discrete-event model of the whole path of a claim, calibrated with measured costs, for fleets larger than a machine of tests."""
