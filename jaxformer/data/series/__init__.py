"""Numbers over time: prices of many tickers and series of many channels, from files or made from a seed, to windows.

Reading (`table`, `prices`, `multivariate`), cleaning that counts what it does, features and labels of days (`features`,
`panel`), statistics of the training period alone (`standardize`), windows that never look ahead (`windows`), and
generated data (`generator`). Not for networks and losses (`tasks`), nor for scores (`evaluation`).
"""
