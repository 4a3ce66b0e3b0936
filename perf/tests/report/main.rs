//! Reports of a run as it might be: what they say, that they are well-formed, and that a browser shows them.

mod browser;
mod command;
mod pages;
mod specimen;

use libtest_mimic::{Arguments, Completion, Trial};

fn main() -> std::process::ExitCode {
    if let Some(code) = command::as_program() {
        return code;
    }
    let arguments = Arguments::from_args();
    let mut trials = vec![
        Trial::test("every_row_is_in_every_report", || {
            pages::every_row().map_err(Into::into)
        }),
        Trial::test("the_table_is_as_wide_as_it_may_be", || {
            pages::widths().map_err(Into::into)
        }),
        Trial::test("the_table_shows_what_happened", || {
            pages::snippets().map_err(Into::into)
        }),
        Trial::test("markdown_tables_are_whole", || {
            pages::markdown().map_err(Into::into)
        }),
        Trial::test("the_page_is_well_formed", || {
            pages::well_formed().map_err(Into::into)
        }),
        Trial::test("the_page_needs_nothing_else", || {
            pages::self_contained().map_err(Into::into)
        }),
        Trial::test("a_large_page_stays_small", || {
            pages::size().map_err(Into::into)
        }),
        Trial::test("results_survive", || {
            pages::round_trip().map_err(Into::into)
        }),
        Trial::test("report_writes_all_formats", || {
            command::formats().map_err(Into::into)
        }),
        Trial::test("explanations_are_merged_and_saved", || {
            command::explanations().map_err(Into::into)
        }),
        Trial::test("compare_finds_a_regression", || {
            command::regression().map_err(Into::into)
        }),
        Trial::test("a_broken_pipe_is_no_error", || {
            command::broken_pipe().map_err(Into::into)
        }),
    ];
    for (name, test) in browser::TESTS {
        trials.push(Trial::ignorable_test(
            name,
            move || match browser::missing() {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => test().map(|()| Completion::Completed).map_err(Into::into),
            },
        ));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
