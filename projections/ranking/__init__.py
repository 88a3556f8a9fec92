"""In which order candidates come: orders, weighers, fragmentation."""
