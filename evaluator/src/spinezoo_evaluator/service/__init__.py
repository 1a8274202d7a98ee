"""The service on the wire: fusion of masks, and metrics of streams of films."""
