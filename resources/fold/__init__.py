"""The fold: state and a log record in, changes out. One module for each kind of event."""
