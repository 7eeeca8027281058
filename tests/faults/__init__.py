"""A fault lab: the real commands in processes of their own, interrupted on purpose.

driver.py starts and kills, injected.py is what breaks inside a process, cases.py says which runs
there are, promises.py what has to hold afterwards. The short part is test_faults.py, the long one
`python -m tests.faults`.
"""
