//! What one who watches is told of enriched records, without a log: for tests of the whole path.

use super::{Live, Wanted};
use crate::event::ids::ProjectId;
use crate::event::record::Enriched;
use crate::log::Record;

/// The messages to those who watch a project, all events and some of them, while these records come.
pub(crate) fn told(project: ProjectId, records: &[Vec<u8>]) -> Vec<String> {
    let live = Live::new();
    let some = r#"filters=[{"field":"properties.plan","op":"contains","value":"p"},{"field":"browser","op":"exists"}]"#;
    let watches = ["include_bots=true", some].map(|asked| live.watch(project, &Wanted::parse(asked).unwrap(), None).unwrap());
    let mut content = Enriched::default();
    for (offset, payload) in (0..).zip(records) {
        live.count(&Record { offset, payload: payload.clone().into() }, &mut content);
    }
    assert!(live.end_second(), "somebody watches");
    let mut messages = Vec::new();
    for mut watch in watches {
        while let Ok(message) = watch.receiver.try_recv() {
            messages.push(String::from_utf8(message.text.to_vec()).unwrap());
        }
    }
    messages
}
