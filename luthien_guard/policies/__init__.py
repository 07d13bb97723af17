"""The policies that come with the library, each a plain plugin registered through the project's own entry points."""
