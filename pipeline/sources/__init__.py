"""Where documents come from: folders and object stores, the URIs of what lies in them, and their listing."""
