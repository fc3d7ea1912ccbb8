"""The sources of documents: folders and object stores, the URIs of their files and objects, and their listings."""
