"""The HTTP server, and the page that it gives."""
