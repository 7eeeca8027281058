"""Patients' data in Chinese medical text: found, masked."""
