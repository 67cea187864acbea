"""What runs under the Python of a server, each as one file: may import the standard library only."""
