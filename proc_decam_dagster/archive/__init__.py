"""The NOIRLab Astro Data Archive and the sites of reference data: search, download, verify. No Butler here."""
