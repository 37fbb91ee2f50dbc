//! What goes beside a plan: errors and settings.

use datafusion::common::DataFusionError;
use datafusion::prelude::SessionConfig;

use crate::distributed::errors::{received, sent};
use crate::distributed::settings::{Beside, take_settings, with_sent};
use crate::error::{Error, ErrorKind};
use crate::format::hex;

#[test]
fn an_error_is_the_same_after_its_journey_as_text() {
    let kinds = [ErrorKind::Corrupt, ErrorKind::NotFound, ErrorKind::Storage];
    for kind in kinds {
        let own = Error::new(kind, "superfiles/ü{}.parquet", "is }broken\u{1}").with_source("why");
        let (subject, text) = (own.subject().to_owned(), own.to_string());
        let text_only = sent(DataFusionError::from(own)).to_string();
        let arrived = received(DataFusionError::External(format!("x: {text_only}").into()));
        let own = Error::find_in(&arrived).unwrap();
        assert_eq!((own.kind(), own.subject()), (kind, subject.as_str()));
        assert_eq!(own.to_string(), text);
    }
}

#[test]
fn other_errors_pass_as_they_are() {
    let other = || DataFusionError::Execution("\u{1}supertable{[]}supertable\u{1}".to_owned());
    assert_eq!(sent(other()).to_string(), other().to_string());
    assert_eq!(received(other()).to_string(), other().to_string());
}

#[test]
fn settings_that_differ_from_their_defaults_arrive() {
    let config = SessionConfig::new()
        .set_str("datafusion.execution.time_zone", "+05:00")
        .set_usize("datafusion.execution.batch_size", 77)
        .set_bool("datafusion.execution.parquet.pushdown_filters", true);
    let sent = with_sent(config, "", false).unwrap();
    let beside = sent.options().extensions.get::<Beside>().unwrap().clone();
    let mut arrived = SessionConfig::new();
    take_settings(&beside, &mut arrived).unwrap();
    let options = arrived.options();
    assert_eq!(options.execution.time_zone.as_deref(), Some("+05:00"));
    assert_eq!(arrived.batch_size(), 77);
    assert!(options.execution.parquet.pushdown_filters);
}

#[test]
fn damaged_settings_are_an_error() {
    for settings in ["0", "zz", "7b", "ff00"] {
        let beside = Beside {
            settings: settings.to_owned(),
            ..Beside::default()
        };
        assert!(
            take_settings(&beside, &mut SessionConfig::new()).is_err(),
            "{settings}"
        );
    }
    assert_eq!(
        hex::decode(&hex::encode(&[0, 1, 255])),
        Some(vec![0, 1, 255])
    );
}
