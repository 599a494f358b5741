//! The picture at 80x24 and smaller, and what keys do to it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    super::{model::Tab, screen::press},
    *,
};
use crate::cli::top::model::tests::model;

fn shown(model: &Model) -> String {
    text(model, 80, 24).unwrap()
}

fn press_all(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        assert!(!press(model, KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)));
    }
}

#[test]
fn a_frame_of_80_by_24_has_the_head_the_streams_and_the_keys() {
    let frame = shown(&model(Tab::Streams));
    let lines: Vec<_> = frame.lines().collect();
    assert_eq!(lines.len(), 24);
    assert_eq!(lines[0], "adit 1.2.3, ready, up 90s, pid 7, 3 streams");
    assert_eq!(lines[1], "1 certificate, the first expires in 10d (default)");
    assert!(lines[2].contains("[1] streams") && lines[2].contains("[4] identities"), "{frame}");
    assert!(lines[3].starts_with("name") && lines[3].contains("down/s▼"), "{frame}");
    assert!(lines[4].starts_with("/svc/redis") && lines[4].ends_with("90.0K"), "{frame}");
    assert!(lines[23].starts_with("q quit"), "{frame}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80));
}

#[test]
fn columns_have_what_they_need_where_there_is_room_and_their_share_where_there_is_not() {
    let columns = |needs: [usize; 3]| {
        let kinds = [Width::Share(8), Width::Fixed(4), Width::Share(5), Width::Share(4)];
        let needs = [needs[0], 9, needs[1], needs[2]];
        kinds.into_iter().zip(needs).collect::<Vec<_>>()
    };
    assert_eq!(widths(&columns([19, 15, 15]), 80), [19, 4, 15, 15]);
    // 46 cells for 49: the name has all it needs, the others what it leaves
    assert_eq!(widths(&columns([19, 15, 15]), 53), [19, 4, 15, 12]);
    assert_eq!(widths(&columns([99, 99, 99]), 24), [8, 4, 5, 4]);
    assert_eq!(widths(&columns([99, 99, 99]), 3), [0, 4, 0, 0]);
}

#[test]
fn every_table_fits_even_a_tiny_screen() {
    for tab in Tab::ALL {
        for (width, height) in [(80, 24), (40, 10), (10, 3), (1, 1)] {
            assert!(!text(&model(tab), width, height).unwrap().is_empty());
        }
    }
}

#[test]
fn keys_choose_filter_pause_and_quit() {
    let mut model = model(Tab::Streams);
    press_all(&mut model, "2");
    assert!(shown(&model).contains("/svc/unused"));
    press_all(&mut model, "/redisq");
    assert!(shown(&model).contains("filter: redisq_"), "{}", shown(&model));
    assert!(!press(&mut model, KeyEvent::new(KeyCode::Backspace, KeyModifiers::NONE)));
    assert!(!press(&mut model, KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE)));
    assert!(shown(&model).contains("[1 of 3 hold \"redis\"]"), "{}", shown(&model));
    press_all(&mut model, " jjjk");
    assert!(shown(&model).contains("paused"));
    assert!(press(&mut model, KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE)));
    assert!(press(&mut model, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn a_fault_is_in_the_head() {
    let mut model = model(Tab::Streams);
    model.fault = Some("no agent answers".to_owned());
    assert!(shown(&model).lines().nth(1) == Some("no agent answers"));
}
