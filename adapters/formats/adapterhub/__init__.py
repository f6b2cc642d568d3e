"""AdapterHub's folders: `folder` reads and writes one, `setup` reads a whole arrangement; a method is one file."""
