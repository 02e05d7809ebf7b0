"""What a query may be made of. All that is not named here is refused, so that what a newer parser or engine brings is
refused until somebody has thought about it.

Left out on purpose: whatever reads files or settings or lists tables, table functions, lambdas and nested types,
`COLUMNS(...)`, and functions that make a large value out of a small one (`repeat`, `range`, `lpad`, `format`): DuckDB
counts the memory of almost everything, but not of what these make.
"""

from __future__ import annotations

from sqlglot import exp

_STRUCTURE = {
    exp.Select, exp.Union, exp.Except, exp.Intersect, exp.Subquery, exp.With, exp.CTE, exp.Values, exp.Tuple,
    exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Qualify, exp.Order, exp.Ordered, exp.Limit, exp.Offset,
    exp.Fetch, exp.Distinct, exp.Cube, exp.Rollup, exp.GroupingSets, exp.Table, exp.TableAlias, exp.Column, exp.Alias,
    exp.Identifier, exp.Star, exp.Paren,
    exp.Window, exp.WindowSpec, exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls,
}  # fmt: skip
_VALUES = {
    exp.Literal, exp.Boolean, exp.Null, exp.Interval, exp.IntervalSpan, exp.Var, exp.DataType, exp.DataTypeParam,
    exp.Cast, exp.TryCast, exp.AtTimeZone,
}  # fmt: skip
_OPERATORS = {
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Pow, exp.Neg, exp.DPipe,
    exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseNot, exp.BitwiseLeftShift, exp.BitwiseRightShift,
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ,
    exp.Is, exp.In, exp.Between, exp.Like, exp.ILike, exp.Escape, exp.SimilarTo, exp.RegexpLike,
    exp.Exists, exp.Any, exp.All, exp.Case, exp.If,
}  # fmt: skip
_AGGREGATES = {
    exp.Count, exp.CountIf, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.ArgMin, exp.ArgMax, exp.First, exp.Last,
    exp.AnyValue, exp.Median, exp.Mode, exp.Quantile, exp.PercentileCont, exp.PercentileDisc, exp.ApproxQuantile,
    exp.ApproxDistinct, exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance, exp.VariancePop, exp.Corr,
    exp.CovarPop, exp.CovarSamp, exp.RegrSlope, exp.RegrIntercept, exp.Skewness, exp.Kurtosis, exp.LogicalAnd,
    exp.LogicalOr, exp.BitwiseAndAgg, exp.BitwiseOrAgg, exp.GroupConcat,
}  # fmt: skip
_WINDOWS = {
    exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile, exp.Lag, exp.Lead,
    exp.FirstValue, exp.LastValue, exp.NthValue,
}  # fmt: skip
_NUMBERS = {
    exp.Abs, exp.Sign, exp.Round, exp.Floor, exp.Ceil, exp.Trunc, exp.Sqrt, exp.Cbrt, exp.Exp, exp.Ln, exp.Log,
    exp.Sin, exp.Cos, exp.Tan, exp.Cot, exp.Asin, exp.Acos, exp.Atan, exp.Atan2, exp.Degrees, exp.Radians, exp.Pi,
    exp.Greatest, exp.Least, exp.Coalesce, exp.Nullif, exp.IsNan, exp.IsInf,
}  # fmt: skip
_TEXTS = {
    exp.Lower, exp.Upper, exp.Length, exp.Trim, exp.Substring, exp.Left, exp.Right, exp.Concat, exp.ConcatWs,
    exp.StartsWith, exp.EndsWith, exp.Contains, exp.StrPosition, exp.SplitPart,
}  # fmt: skip
_TIMES = {
    exp.CurrentTimestamp, exp.CurrentDate, exp.DateBin, exp.TimestampTrunc, exp.DateTrunc, exp.Extract, exp.DateDiff,
    exp.DateAdd, exp.DateSub, exp.Year, exp.Quarter, exp.Month, exp.Week, exp.Day, exp.DayOfWeek, exp.DayOfWeekIso,
    exp.DayOfYear, exp.Hour, exp.Minute, exp.Second, exp.Dayname, exp.Monthname, exp.LastDay, exp.TimeToStr,
    exp.StrToTime, exp.TimeToUnix, exp.UnixToTime, exp.ToDays,
}  # fmt: skip

NODES: frozenset[type[exp.Expr]] = frozenset(
    _STRUCTURE | _VALUES | _OPERATORS | _AGGREGATES | _WINDOWS | _NUMBERS | _TEXTS | _TIMES
)
FUNCTIONS = frozenset(
    {
        "now", "epoch", "epoch_ns", "epoch_us", "epoch_ms", "date_part", "datepart", "date_sub", "age", "weekday",
        "to_hours", "to_minutes", "to_seconds", "to_milliseconds", "make_timestamp", "make_timestamp_ns", "time_bucket",
        "mad", "product", "entropy", "geomean", "quantile_disc", "stddev_samp", "var_samp", "regr_r2", "regr_count",
        "isfinite", "even", "prefix", "suffix", "ends_with",
    }
)  # fmt: skip
"""Functions that the parser knows by their name only."""

TYPES = frozenset(
    {
        exp.DType.BOOLEAN, exp.DType.TINYINT, exp.DType.SMALLINT, exp.DType.INT, exp.DType.BIGINT, exp.DType.INT128,
        exp.DType.UTINYINT, exp.DType.USMALLINT, exp.DType.UINT, exp.DType.UBIGINT, exp.DType.FLOAT, exp.DType.DOUBLE,
        exp.DType.DECIMAL, exp.DType.VARCHAR, exp.DType.TEXT, exp.DType.DATE, exp.DType.TIME, exp.DType.TIMESTAMP,
        exp.DType.TIMESTAMPNTZ, exp.DType.DATETIME,
        exp.DType.TIMESTAMP_S, exp.DType.TIMESTAMP_MS, exp.DType.TIMESTAMP_NS, exp.DType.TIMESTAMPTZ,
        exp.DType.INTERVAL,
    }
)  # fmt: skip

JOIN_METHODS = frozenset({"", "ASOF"})
"""NATURAL is not among them: which columns it compares would depend on which fields were read."""
