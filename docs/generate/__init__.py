"""Makes the pages of the reference from the code, and fits the documents into a site."""
