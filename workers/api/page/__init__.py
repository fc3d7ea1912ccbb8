"""The page of the service for people: HTML from templates, over the functions that the API answers with."""
