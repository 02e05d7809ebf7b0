"""One package per outside protocol. They never import each other; what two of them need moves to the kernel."""
