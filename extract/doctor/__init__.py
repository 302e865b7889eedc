"""The doctor: is this encoder trained, this device right, this bucket readable, this store writable?"""
