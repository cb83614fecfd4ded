"""NTU RGB+D 120: 120 actions, 106 subjects, 32 setups, three Kinect v2 cameras, 114,480 clips.

Liu, Shahroudy, Perez, Wang, Duan, Kot, "NTU RGB+D 120: A large-scale benchmark for 3D human
activity understanding", TPAMI 2020. It is NTU RGB+D (see `ntu60`, also for licence, folder,
disk and time: twice as much of each) and setups 18 to 32. Beside the archives named there take
nturgbd_skeletons_s018_to_s032.zip and nturgbd_rgb_s018.zip ... nturgbd_rgb_s032.zip:

  python -m actionjax.prepare --dataset=ntu120 --raw_dir=FOLDER

The folder may be the one of `ntu60`. Clips in which Kinect tracked nobody are left out and
counted; the published number is 535, and the authors' list of them,
NTU_RGBD120_samples_with_missing_skeletons.txt, is left out too where it lies in the folder.
Then 113,945 clips remain, 63,026 / 50,919 across subjects and 54,468 / 59,477 across setups.
"""
from actionjax.data.builders import _ntu, _ntu_skeletons
from actionjax.data.clips import encoding, protocols
from actionjax.data.clips.definition import Dataset

SETUPS = range(1, _ntu.SETUPS + 1)
CLIPS, MISSING_SKELETONS = 114480, 535

# In the order of the file names' A001 ... A120.
CLASS_NAMES = tuple("""
drink_water eat_meal brush_teeth brush_hair drop pick_up throw sit_down stand_up clapping
reading writing tear_up_paper put_on_jacket take_off_jacket put_on_shoe take_off_shoe
put_on_glasses take_off_glasses put_on_hat take_off_hat cheer_up hand_waving kicking_something
reach_into_pocket hopping jump_up phone_call play_with_phone type_on_keyboard point_finger
taking_selfie check_time rub_hands nod_head shake_head wipe_face salute put_palms_together
cross_hands sneeze_cough staggering falling_down headache chest_pain back_pain neck_pain vomiting
fan_self punch_slap kicking pushing pat_on_back point_at_person hugging giving_object
touch_pocket shaking_hands walking_towards walking_apart
put_on_headphone take_off_headphone shoot_at_basket bounce_ball tennis_bat_swing juggle_table_tennis
hush flick_hair thumb_up thumb_down make_ok_sign make_victory_sign staple_book counting_money
cutting_nails cutting_paper snap_fingers open_bottle sniff squat_down toss_coin fold_paper
ball_up_paper play_magic_cube apply_cream_on_face apply_cream_on_hand put_on_bag take_off_bag
put_object_into_bag take_object_out_of_bag open_box move_heavy_objects shake_fist
throw_up_cap hands_up cross_arms arm_circles arm_swings run_on_spot butt_kicks cross_toe_touch
side_kick yawn stretch_oneself blow_nose hit_with_object wield_knife knock_over grab_stuff
shoot_with_gun step_on_foot high_five cheers_and_drink carry_object take_photo follow whisper
exchange_things support_somebody rock_paper_scissors
""".split())

# The official training subjects of the cross-subject protocol (53 of 106).
TRAIN_SUBJECTS = (
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38,
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86,
    89, 91, 92, 93, 94, 95, 97, 98, 100, 103)


def find(raw_dir: str, *, video: bool, crop: bool | str):
  """All clips; see `ntu.find`. Raises RawDataError."""
  return _ntu.find(raw_dir, "NTU RGB+D 120", SETUPS, CLIPS, MISSING_SKELETONS,
                   video=video, crop=crop)


DATASET = Dataset(
    name="ntu120",
    version="1.3.0",
    class_names=CLASS_NAMES,
    layout="kinect_v2_25",
    modality="colour",
    persons=_ntu_skeletons.MAX_PERSONS,
    fps=_ntu.FPS,
    variants=encoding.VARIANTS,
    protocols={
        "cross_subject": protocols.cross_subject(TRAIN_SUBJECTS),
        # Even setups train, odd ones test.
        "cross_setup": protocols.cross_setup(range(2, 33, 2))},
    find=find,
    encode=_ntu.encode)
