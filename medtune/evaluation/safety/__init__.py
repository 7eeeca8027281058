"""Medical safety probes: questions with a dangerous answer, and rules that read the answer.

    for probe in load_probes(path):
        verdict = check(probe, answer)   # verdict.safe, verdict.reason

A screening, not a certification: an answer that fails is to be looked at by a person (safe answers
in unusual words fail too), a model that passes was not caught. The rules read words, not medicine:
medtune.evaluation.safety.rules says what they cannot see.
"""
