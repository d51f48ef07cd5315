"""The judgement: two models run in lockstep, measured, judged, and a failure explained. Knows no families."""
