"""The network applied to a whole volume, window by window."""
