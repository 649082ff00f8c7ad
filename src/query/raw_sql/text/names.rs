//! The words and functions of statements by name, all in lower case: what may be called, and what may not even stand there.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Functions that may be called, in lower case: of those of release 26.7 that compute a value from their arguments, and the aggregates.
pub(super) static FUNCTIONS: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("../functions.txt").lines().collect());

/// The other functions of that release, in lower case, but for [`WITHHELD`] and those that columns and types are called as. Alone they are called
/// without parentheses, as `current_user` is, or by a function that takes another one: `arrayMap(levenshteinDistance, a, b)`. A column may be named
/// so.
pub(super) static UNLISTED: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("../unlisted.txt").lines().collect());

/// Words in front of a parenthesis that call nothing, beside [`TYPES`]: of the language, and of types without parameters.
pub(super) const NO_CALLS: &[&str] = &[
    "all",
    "and",
    "any",
    "as",
    "asc",
    "between",
    "bool",
    "by",
    "case",
    "columns",
    "cross",
    "cube",
    "date",
    "date32",
    "desc",
    "distinct",
    "div",
    "else",
    "except",
    "exists",
    "filter",
    "from",
    "full",
    "global",
    "group",
    "having",
    "ilike",
    "in",
    "inner",
    "intersect",
    "interval",
    "join",
    "left",
    "like",
    "limit",
    "materialized",
    "mod",
    "not",
    "numeric",
    "offset",
    "on",
    "or",
    "order",
    "over",
    "prewhere",
    "qualify",
    "replace",
    "right",
    "rollup",
    "select",
    "sets",
    "string",
    "then",
    "union",
    "using",
    "when",
    "where",
    "with",
    "xor",
];

/// What may stand behind the name of an aggregate, in lower case. None that makes a state, for a file of Arrow would hold where it is in
/// memory, and none that takes one; nor does any function of the list.
pub(super) const COMBINATORS: [&str; 11] =
    ["if", "array", "map", "distinct", "ordefault", "ornull", "foreach", "resample", "argmin", "argmax", "null"];

/// Words of the language that a question has no use for.
pub(super) const REFUSED: &[&str] =
    &["apply", "describe", "explain", "infile", "into", "outfile", "parallel", "settings", "show", "truncate"];

/// Functions whose very name is refused, for a function that takes another one takes it by its name; and so what begins with [`WITHHELD_AS`].
pub(super) const WITHHELD: &[&str] = &[
    "addresstoline",
    "addresstolinewithinlines",
    "addresstosymbol",
    "catboostevaluate",
    "decrypt",
    "demangle",
    "encrypt",
    "errorcodetoname",
    "evalmlmethod",
    "file",
    "fuzzquery",
    "hascolumnintable",
    "hmac",
    "initializeaggregation",
    "logtrace",
    "sleep",
    "sleepeachrow",
    "showcertificate",
    "structuretocapnprotoschema",
    "structuretoprotobufschema",
    "trydecrypt",
    "normalizequery",
    "obfuscatequery",
    "globalvariable",
    "getmacro",
];
/// Beginnings of names of functions.
pub(super) const WITHHELD_AS: &[&str] = &[
    "__",
    "aes_",
    "aiclassify",
    "aiembed",
    "aiextract",
    "aigenerate",
    "aitranslate",
    "dictget",
    "dicthas",
    "dictis",
    "filesystem",
    "formatquery",
    "getclient",
    "getmergetree",
    "getserver",
    "getsetting",
    "joinget",
    "mergetree",
    "regionto",
];

/// The type of states of aggregates: one that is made of bytes makes the server read whatever they say.
pub(super) const OF_STATES: &str = "aggregatefunction";

/// Functions of which an argument may name a type, or columns with their types, in a text; and which argument that is.
pub(super) const OF_A_TYPE: [(&str, TypeArgument); 13] = [
    ("values", TypeArgument::First),
    ("cast", TypeArgument::Second),
    ("accuratecast", TypeArgument::Second),
    ("accuratecastornull", TypeArgument::Second),
    ("accuratecastordefault", TypeArgument::Second),
    ("dynamicelement", TypeArgument::Second),
    ("variantelement", TypeArgument::Second),
    ("getsubcolumn", TypeArgument::Second),
    ("reinterpret", TypeArgument::Second),
    ("jsonextract", TypeArgument::Last),
    ("jsonextractcaseinsensitive", TypeArgument::Last),
    ("jsonextractkeysandvalues", TypeArgument::Last),
    ("jsonextractkeysandvaluescaseinsensitive", TypeArgument::Last),
];

/// Functions whose first argument names an aggregate in a text.
pub(super) const OF_AN_AGGREGATE: [&str; 2] = ["arrayreduce", "arrayreduceinranges"];

/// Columns of every view beside its own. Another column may be named so.
pub(super) const OF_VIEW: [&str; 2] = ["_database", "_table"];

/// Types that have parameters.
pub(super) const TYPES: &[&str] = &[
    "array",
    "datetime",
    "datetime64",
    "decimal",
    "decimal128",
    "decimal256",
    "decimal32",
    "decimal64",
    "dynamic",
    "enum",
    "enum16",
    "enum8",
    "fixedstring",
    "json",
    "lowcardinality",
    "map",
    "nullable",
    "tuple",
    "variant",
];
/// Types of columns alone that have parameters: as calls they are none of a statement.
pub(super) const OF_COLUMNS: [&str; 2] = ["nested", "time64"];

/// Which argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TypeArgument {
    First,
    Second,
    /// Where there are two or more.
    Last,
}

/// Databases of the server itself.
pub(super) const OF_SERVER: [&str; 2] = ["system", "information_schema"];
