"""Tests of images and composition: what the files promise, and what the containers then do."""
