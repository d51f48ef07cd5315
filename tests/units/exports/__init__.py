"""Tests of conversion/exports."""
