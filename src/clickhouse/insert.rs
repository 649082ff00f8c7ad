//! What to do after a failed insert or look-up.

use super::ClickHouseError;

/// Who decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Time: the same may succeed later.
    Later,
    /// Another owner of the partition: its generation stands in the fence.
    Fenced,
    /// A person: schema, rights or configuration are not as they must be. The data is good and stays in the log.
    Stop,
}

/// Classifies an error by its code.
pub fn retry(error: &ClickHouseError) -> Retry {
    let ClickHouseError::Server { code, message } = error else { return Retry::Later };
    match code {
        // VIOLATED_CONSTRAINT: ours is the only constraint.
        469 => Retry::Fenced,
        // TOO_MANY_PARTS has two meanings: merges lag (wait), or one block spans too many partitions (never cures itself).
        252 if message.contains("partitions for single INSERT block") => Retry::Stop,
        // UNKNOWN_TABLE, UNKNOWN_DATABASE, NO_SUCH_COLUMN_IN_TABLE, UNKNOWN_IDENTIFIER, TYPE_MISMATCH, SYNTAX_ERROR,
        // UNKNOWN_FUNCTION, ACCESS_DENIED, AUTHENTICATION_FAILED, UNKNOWN_USER, REQUIRED_PASSWORD, WRONG_PASSWORD,
        // UNKNOWN_SETTING, INCORRECT_DATA, CANNOT_CONVERT_TYPE.
        60 | 81 | 16 | 47 | 53 | 62 | 46 | 497 | 516 | 192 | 194 | 193 | 115 | 117 | 70 => Retry::Stop,
        // A column of another type: the code is that of whatever text could not be read as it.
        _ if message.contains("while converting column") => Retry::Stop,
        // Everything else is load or state: timeouts, memory, disk, read-only, Keeper, start-up.
        _ => Retry::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: i32, message: &str) -> ClickHouseError {
        ClickHouseError::Server { code, message: message.to_owned() }
    }

    #[test]
    fn each_kind_of_trouble_has_its_answer() {
        assert_eq!(retry(&server(469, "")), Retry::Fenced);
        assert_eq!(retry(&server(252, "Too many parts (3000)")), Retry::Later);
        assert_eq!(retry(&server(252, "Too many partitions for single INSERT block (more than 100)")), Retry::Stop);
        assert_eq!(retry(&server(60, "")), Retry::Stop);
        let converted =
            "Array does not start with '[' character: while converting column `page_title` from type String to type Array(UInt8)";
        assert_eq!(retry(&server(130, converted)), Retry::Stop);
        assert_eq!(retry(&server(243, "")), Retry::Later);
        assert_eq!(retry(&ClickHouseError::Network(String::new())), Retry::Later);
    }
}
