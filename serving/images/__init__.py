"""Images: what the backbone's folder says of them, and how hostile bytes become pixels, in a process of their own."""
